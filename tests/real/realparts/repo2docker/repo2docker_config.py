# repo2docker's configuration for the tests: the base image of the tests, the host's network for builds (their engine
# has no other), and no content provider that asks the network what a link is. Read by repo2docker, which gives `c`.
import repo2docker
from repo2docker import contentproviders

c = get_config()  # noqa: F821
c.Repo2Docker.base_image = "ringbinder-tests/base:1"
c.Repo2Docker.content_providers = [contentproviders.Local, contentproviders.Git]
if int(repo2docker.__version__.partition(".")[0]) >= 2025:
    c.DockerEngine.extra_buildx_build_args = ["--network", "host"]
else:
    c.Repo2Docker.extra_build_kwargs = {"network_mode": "host"}
