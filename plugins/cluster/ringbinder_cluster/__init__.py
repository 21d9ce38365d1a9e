"""What plugins share that live on a Kubernetes cluster: its API, a watched cache of pods, their logs."""
