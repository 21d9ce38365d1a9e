"""Each line of the security page is shown by tests; a line without one, and a test that is not there, fails."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "explanation" / "security.md"

SHOWN_BY: dict[str, str] = {
    # a page elsewhere, and a link
    "E1": """server/security/test_origins.py::test_who_may
        server/security/test_origins.py::test_a_refusal_is_one_event_and_starts_nothing
        server/security/test_origins.py::test_a_foreign_page_cannot_take_over_a_session
        server/security/test_origins.py::test_by_default_no_other_page_may_read
        server/routes/test_pages_foreign.py::test_a_foreign_page_runs_nothing""",
    "E2": """attack/test_foreign_host.py::test_foreign_host_is_refused_on_every_route
        attack/test_foreign_host.py::test_probe_by_any_host_is_answered""",
    "E3": """server/test_app.py::test_a_link_is_text_in_the_page
        server/test_app.py::test_pages_allow_nothing_foreign""",
    "E4": """server/routes/test_login.py::test_a_login_sends_no_one_elsewhere
        server/security/test_access_token.py::test_a_link_cannot_send_the_browser_elsewhere""",
    "E5": """attack/test_websocket_handshakes.py::test_websocket_handshake_is_refused
        attack/test_h2c.py::test_h2c_prior_knowledge_is_refused
        attack/test_h2c.py::test_h2c_upgrade_is_answered_by_http1""",
    "E6": "server/routes/test_build_policies.py::test_a_trusted_proxy_is_believed",
    "E7": """attack/test_addresses.py::test_metadata_service_of_a_cloud_is_private
        attack/test_addresses.py::test_special_purpose_address_is_private
        attack/test_addresses.py::test_other_notation_of_an_address_is_refused
        attack/test_addresses.py::test_name_with_one_private_address_is_bound_to_the_others
        providers/test_guard.py::test_git_connects_to_the_address_that_was_judged
        providers/test_guard.py::test_a_redirect_is_not_followed
        providers/test_guard.py::test_a_submodule_inside_is_refused
        providers/test_guard.py::test_on_for_a_server_that_others_reach""",
    "E8": "providers/test_remote.py::test_local_addresses_are_for_the_command_line",
    "E9": """attack/test_session_bounds.py::test_spec_is_refused_from_its_bound_on
        attack/test_session_bounds.py::test_client_beyond_its_limit_gets_one_event
        attack/test_session_bounds.py::test_server_beyond_its_limit_refuses_everybody
        attack/test_session_bounds.py::test_launches_under_way_are_not_forgotten""",
    # who may launch what
    "E10": """core/config/test_specs.py::test_a_banned_owner_in_any_spelling_is_refused
        core/config/test_specs.py::test_a_banned_address_in_any_spelling_is_refused
        core/config/test_specs.py::test_an_allowed_host_is_the_host_that_is_asked
        core/config/test_specs.py::test_the_higher_quota_is_granted_in_each_form_only
        core/config/test_specs.py::test_the_settings_of_a_spec_are_those_of_what_it_means
        core/config/test_specs.py::test_a_strangers_provider_is_under_the_lists""",
    "E11": """attack/test_policies_fail_closed.py::test_policy_that_is_broken_keeps_the_server_down
        attack/test_policies_fail_closed.py::test_admit_that_answers_wrongly_refuses
        attack/test_policies_fail_closed.py::test_admit_that_takes_too_long_refuses
        attack/test_policies_fail_closed.py::test_policy_that_dies_while_running_refuses_all
        attack/test_policies_fail_closed.py::test_policy_that_may_fail_is_left_out_and_shown""",
    "E12": "attack/test_quota_counts.py::test_quota_over_a_launcher_that_lists_nothing_refuses",
    "E13": """server/routes/test_build_policies.py::test_a_build_token_is_for_one_link_one_host_and_a_while
        server/routes/test_build_policies.py::test_a_key_that_is_too_short_is_refused""",
    "E14": "server/routes/test_build_policies.py::test_a_banned_network_gets_nothing_but_version_and_health",
    "E15": """attack/test_logins_fail_closed.py::test_authenticate_that_gives_no_user_lets_no_one_in
        attack/test_logins_fail_closed.py::test_login_without_a_plugin_for_it_does_not_start""",
    # a repository, a git host, an archive, a registry
    "E20": """providers/test_remote.py::test_hooks_and_filters_of_a_repository_do_not_run
        providers/test_remote.py::test_no_program_of_the_account_decides
        providers/test_remote.py::test_a_submodule_may_not_be_a_path
        providers/test_remote.py::test_ssh_never_asks_and_has_no_keys""",
    "E21": "providers/test_remote.py::test_fetches_the_very_commit",
    "E46": """attack/test_strangers_git.py::test_address_that_is_no_remote_one_is_refused
        attack/test_strangers_git.py::test_folder_of_this_machine_stays_closed
        attack/test_strangers_git.py::test_ref_that_is_no_commit_is_the_providers_mistake
        attack/test_strangers_git.py::test_private_address_is_refused_unless_trusted
        attack/test_strangers_git.py::test_submodule_at_a_private_address_is_refused
        attack/test_strangers_git.py::test_redirect_is_not_followed
        attack/test_strangers_git.py::test_credentials_of_a_host_go_to_no_other
        attack/test_hostile_repositories.py::test_hostile_repository_of_a_strangers_provider_is_refused
        providers/test_remote.py::test_hooks_and_filters_of_a_repository_do_not_run""",
    "E22": """providers/test_zenodo.py::test_an_archive_that_leads_out
        providers/test_zenodo.py::test_links_in_an_archive
        providers/test_zenodo.py::test_a_name_that_leads_out
        attack/test_fuzz_archives.py::test_archive_of_any_entries_is_harmless
        attack/test_fuzz_archives.py::test_archive_that_unpacks_to_too_much_is_refused""",
    "E23": """attack/test_recipe_links.py::test_recipe_file_that_leads_out_is_refused
        attack/test_recipe_links.py::test_binder_folder_that_leads_out_is_refused
        attack/test_recipe_links.py::test_pipe_in_place_of_a_recipe_file_is_refused
        attack/test_recipe_links.py::test_path_of_a_recipe_that_leaves_is_refused
        attack/test_recipe_links.py::test_recipe_file_beyond_the_limit_is_refused
        attack/test_recipe_links.py::test_error_quotes_at_most_a_short_excerpt""",
    "E24": """core/runtime/test_bounded.py::test_bomb_of_a_recipes_size_is_refused
        core/runtime/test_bounded.py::test_yaml_bomb_is_refused_before_it_is_loaded
        core/runtime/test_bounded.py::test_any_bytes_are_read_or_refused_in_a_line
        attack/test_fuzz_recipes.py::test_recipe_full_of_one_thing_stays_within_memory""",
    "E25": """attack/test_diagnosis_bounds.py::test_a_plugin_that_diagnoses_gets_cut_lines
        attack/test_diagnosis_bounds.py::test_a_plugin_that_diagnoses_gets_64_kilobytes
        attack/test_pattern_times.py::test_twice_the_text_takes_at_most_thrice_the_time
        attack/test_operator_patterns.py::test_a_pattern_that_backtracks_is_refused_at_start""",
    "E26": """attack/test_build_logs.py::test_line_of_hostile_json_is_logged_and_harms_nothing
        attack/test_build_logs.py::test_push_that_a_repository_prints_is_bounded
        attack/test_build_logs.py::test_line_of_a_pod_that_never_ends_is_cut
        attack/test_terminal_text.py::test_commands_print_hostile_state_harmlessly
        attack/test_terminal_text.py::test_log_shows_hostile_values_harmlessly
        attack/test_terminal_text.py::test_pages_isolate_names_that_reorder""",
    "E27": """providers/test_remote.py::test_a_password_is_for_its_host_only
        providers/test_policy.py::test_a_token_is_for_the_host_that_it_was_given_for
        builders/test_docker_build.py::test_git_credentials_go_to_their_own_host_only
        attack/test_registry_passwords.py::test_other_token_server_gets_no_password
        attack/test_registry_passwords.py::test_redirect_takes_no_credentials_along""",
    "E28": """attack/test_fuzz_answers.py::test_any_answer_to_a_provider_is_harmless
        attack/test_fuzz_answers.py::test_any_answer_to_a_registry_is_harmless
        attack/test_fuzz_answers.py::test_any_answer_of_a_hub_is_harmless
        attack/test_fuzz_answers.py::test_git_server_with_endless_refs_is_cut_off
        attack/test_fuzz_answers.py::test_compressed_body_is_not_unpacked
        attack/test_fuzz_answers.py::test_registry_that_drips_is_left""",
    "E29": "providers/test_github_api.py::test_operators_credentials_open_what_the_api_hides",
    "E47": """layers/test_private_layers.py::test_private_layers_are_in_the_images_repository_alone
        layers/test_upload.py::test_wrong_record_is_refused_and_made_again""",
    "E48": """layers/test_wheel_hostile.py::test_wheel_with_a_name_that_leads_elsewhere_is_refused
        layers/test_wheel_hostile.py::test_link_or_device_in_a_wheel_is_refused
        layers/test_wheel_hostile.py::test_hostile_entry_point_is_refused
        layers/test_wheel_hostile.py::test_bomb_by_its_declared_size_is_refused_at_once
        layers/test_wheel_hostile.py::test_bomb_of_one_content_under_many_names_is_refused
        layers/test_wheel_hostile.py::test_damage_anywhere_is_refused_or_harmless
        layers/test_wheel_hostile.py::test_memory_does_not_grow_with_the_wheel
        layers/test_conda_hostile.py::test_path_that_leaves_the_prefix_is_refused
        layers/test_conda_hostile.py::test_device_is_refused
        layers/test_conda_hostile.py::test_name_that_removes_a_file_below_is_refused
        layers/test_conda_hostile.py::test_file_in_the_place_of_the_record_is_refused
        layers/test_conda_hostile.py::test_bomb_is_refused
        layers/test_conda_hostile.py::test_hard_link_out_of_the_package_is_refused
        layers/test_conda_hostile.py::test_list_that_lies_is_refused
        layers/test_conda_hostile.py::test_damage_anywhere_is_refused_or_harmless
        layers/test_conda_hostile.py::test_memory_does_not_grow_with_the_package
        layers/test_conda.py::test_link_script_is_not_run_and_is_remarked_on""",
    "E49": """recipe/test_conda_solver.py::test_spec_that_leads_elsewhere_is_refused
        recipe/test_conda_solver.py::test_channel_that_is_not_named_is_refused
        recipe/test_conda_solver.py::test_package_that_a_lock_has_from_elsewhere_is_refused
        layers/test_builder_conda.py::test_channel_of_another_host_is_declined
        layers/test_builder_conda.py::test_forged_record_is_in_no_other_environment""",
    "E50": """registries/test_layout.py::test_link_in_a_layout_is_not_followed
        registries/test_layout.py::test_pipe_in_a_layout_stops_no_one
        registries/test_layout.py::test_index_leads_out_of_no_folder
        registries/test_layout.py::test_damaged_index_is_named
        registries/test_layout.py::test_forged_manifest_is_refused
        registries/test_layout.py::test_forged_blob_is_refused_when_read
        registries/test_layout.py::test_folder_elsewhere_shares_no_file""",
    "E51": """cli/test_build_to.py::test_password_of_another_registry_stays_here
        cli/test_build_to.py::test_password_for_a_prefix_stays_with_its_host""",
    "E52": """layers/test_locking.py::test_lock_declines_what_others_build
        layers/test_locking.py::test_lock_of_uv_lock_with_a_foreign_host_is_declined
        layers/test_locking.py::test_dependency_at_an_address_is_never_fetched
        layers/test_locking.py::test_settings_of_uv_in_a_repository_have_no_effect
        layers/test_lock_mutations.py::test_no_change_leaves_a_stale_lock""",
    "E53": """layers/test_downloads.py::test_download_of_another_file_is_refused
        layers/test_downloads.py::test_download_ends_at_the_limit
        layers/test_downloads.py::test_redirect_to_a_host_not_named_needs_encryption
        layers/test_downloads.py::test_redirect_to_a_private_address_is_refused
        layers/test_downloads.py::test_socket_to_a_private_address_is_refused
        layers/test_downloads.py::test_download_sends_a_login_to_its_host_only""",
    "E54": """layers/test_content.py::test_links_stay_links_wherever_they_lead
        layers/test_content.py::test_pipe_is_left_out_with_a_line
        layers/test_content.py::test_content_has_modes_of_git_and_its_user
        layers/test_content.py::test_name_that_engines_misread_is_refused
        layers/test_content.py::test_folder_that_is_too_deep_is_refused
        layers/test_builder.py::test_what_needs_code_is_declined
        layers/test_base.py::test_wrong_label_is_named
        layers/test_base.py::test_index_that_lies_about_platform_is_seen""",
    # secrets
    "E30": """core/test_secret.py::test_a_secret_shows_only_when_it_is_revealed
        core/test_secret.py::test_no_planted_secret_survives
        core/test_secret.py::test_credentials_are_known_by_their_place
        cli/test_commands.py::test_config_check_finds_every_problem_and_shows_no_secret
        providers/test_remote.py::test_a_password_in_the_link_opens_and_stays_hidden
        server/security/test_access_token.py::test_without_it_nothing_but_probes_and_badges""",
    "E31": """builders/test_docker_build.py::test_a_private_repository_and_no_one_learns_its_password
        hub/test_hub_spawners.py::test_a_process_is_opened_by_its_token_alone
        attack/test_access_token.py::test_the_opened_address_shows_on_no_command_line
        cli/test_displays.py::test_a_browser_is_opened_and_its_command_line_shows_no_token""",
    "E32": "embedded/test_embedded_build.py::test_secrets_of_the_operator",
    "E33": "server/test_app.py::test_what_the_log_shows_of_a_request",
    "E34": """attack/test_secrets_of_links.py::test_a_word_in_a_link_stays_in_the_logs_of_others
        attack/test_secrets_of_links.py::test_a_word_in_a_link_is_scrubbed_in_its_own_tasks
        attack/test_secrets_of_links.py::test_a_long_token_in_a_link_is_scrubbed_everywhere""",
    "E35": """attack/test_named_indexes.py::test_index_of_a_repository_gets_no_password
        attack/test_named_indexes.py::test_index_of_a_package_gets_no_password""",
    # a plugin, and what is installed
    "E40": """authors/test_broken_plugins.py::test_it_is_left_out
        authors/test_broken_plugins.py::test_its_own_launches_fail_and_show_whose_bug_it_is
        authors/test_broken_plugins.py::test_a_sink_that_fails_costs_no_launch
        core/plugins/test_watchdog.py::test_a_plugin_that_blocks_the_loop_is_named""",
    "E41": """core/plugins/test_validation.py::test_a_misspelt_hook_is_refused_with_its_right_name
        attack/test_policies_fail_closed.py::test_policy_without_a_guarding_hook_keeps_the_server_down""",
    "E42": """attack/test_supply_chain.py::test_locks_as_committed_fit
        attack/test_supply_chain.py::test_locks_that_do_not_fit_are_reported
        attack/test_supply_chain.py::test_lists_name_no_index_and_a_hash_for_each
        attack/test_supply_chain.py::test_installing_is_by_hash_everywhere""",
    "E43": """attack/test_supply_chain.py::test_a_package_with_another_hash_is_not_installed
        attack/test_supply_chain.py::test_the_shared_jupyterlab_is_another_with_another_list""",
    "E44": """attack/test_supply_chain.py::test_images_of_others_have_a_digest
        attack/test_supply_chain.py::test_no_image_of_others_is_named_in_another_way
        attack/test_supply_chain.py::test_digests_come_from_the_registry""",
    "E45": """attack/test_supply_chain.py::test_audit_fails_on_a_known_vulnerability
        attack/test_supply_chain.py::test_audit_without_its_data_is_reported""",
    # your own machine: the code of a build
    "O1": """cli/test_consent_command.py::test_without_a_terminal_it_refuses
        cli/test_consent_command.py::test_anything_but_yes_is_no
        attack/test_typed_ahead.py::test_yes_typed_before_the_question_is_no_consent
        attack/test_unmeant_press.py::test_key_held_since_the_page_before_starts_nothing
        attack/test_unmeant_press.py::test_double_click_since_the_page_before_starts_nothing
        attack/test_unmeant_press.py::test_a_click_by_script_starts_nothing""",
    "O2": """core/launches/test_consent.py::test_what_consent_is_given_to
        core/launches/test_consent.py::test_no_credential_is_remembered
        core/launches/test_consent.py::test_remembered_and_forgotten
        cli/test_consent_command.py::test_yes_is_remembered_until_forgotten""",
    "O3": """embedded/test_embedded_sandbox.py::test_a_build_in_bubblewrap
        attack/test_what_stays_open.py::test_build_without_a_sandbox_changes_our_folders""",
    "O4": """embedded/test_embedded_sandbox.py::test_a_build_in_bubblewrap
        embedded/test_embedded_sandbox.py::test_missing_bubblewrap_is_reported_or_refused
        attack/test_image_made_outside.py::test_image_made_outside_is_built_again
        attack/test_image_made_outside.py::test_jupyterlab_and_pythons_of_the_sandbox_are_apart""",
    "O5": "attack/test_what_stays_open.py::test_build_in_the_sandbox_reaches_loopback",
    "O6": """attack/test_half_a_sandbox.py::test_sandbox_for_notebooks_alone_is_a_risk
        attack/test_half_a_sandbox.py::test_check_doctor_and_start_warn_of_half_a_sandbox""",
    "O7": """attack/test_sandbox_canary.py::test_what_a_build_plants_is_left_alone
        attack/test_sandbox_canary.py::test_notebook_of_a_planted_image_sees_no_canary
        core/runtime/test_untrusted.py::test_no_path_of_any_shape_reaches_the_canary
        core/runtime/test_untrusted.py::test_copied_tree_has_no_links_pipes_or_setuid
        core/runtime/test_untrusted.py::test_removing_a_tree_leaves_what_links_lead_to
        attack/test_untrusted_access.py::test_methods_of_paths_are_kept_off_strangers_folders
        attack/test_conda_sandbox.py::test_conda_python_that_is_a_link_elsewhere_is_refused
        attack/test_conda_sandbox.py::test_conda_package_writing_over_its_own_link_stays_inside""",
    "O23": """embedded/test_embedded_shared.py::test_what_needs_more_is_not_shared
        embedded/test_embedded_shared.py::test_source_distribution_is_not_shared
        embedded/test_embedded_shared.py::test_key_has_no_credentials
        embedded/test_embedded_shared.py::test_sandboxed_environment_is_apart
        embedded/test_embedded_environment_store.py::test_damaged_environment_is_not_used_again
        embedded/test_embedded_environment_store.py::test_added_files_are_no_damage""",
    "O8": """attack/test_conda_caches.py::test_package_without_sha256_is_not_shared
        attack/test_conda_caches.py::test_package_of_the_same_name_in_another_channel_is_another
        attack/test_conda_sandbox.py::test_conda_environment_in_a_sandbox_has_a_cache_of_its_own
        attack/test_uv_cache.py::test_package_of_another_index_is_another
        attack/test_what_stays_open.py::test_build_in_the_sandbox_has_a_cache_of_its_own""",
    "O9": """attack/test_sandbox_view.py::test_rest_of_the_machine_is_read_and_connected_to
        attack/test_sandbox_view.py::test_configuration_file_is_not_shown
        attack/test_sandbox_view.py::test_settings_of_the_kernel_cannot_be_written""",
    # your own machine: a notebook's code
    "O10": """attack/test_what_stays_open.py::test_notebook_without_a_sandbox_reads_and_writes
        embedded/test_embedded_sandbox.py::test_a_notebook_in_bubblewrap""",
    "O11": "embedded/test_embedded_sandbox.py::test_a_notebook_in_bubblewrap",
    "O12": """attack/test_what_stays_open.py::test_notebook_in_the_sandbox_reaches_loopback
        embedded/test_embedded_sandbox.py::test_a_notebook_without_network_is_reached_by_its_page_alone""",
    "O13": "embedded/test_embedded_launch.py::test_what_is_installed_in_a_notebook_stays_in_it",
    "O14": """attack/test_sandbox_canary.py::test_what_a_notebook_plants_is_left_alone
        attack/test_relay_socket.py::test_link_to_another_socket_is_not_followed
        core/runtime/test_untrusted.py::test_no_path_of_any_shape_reaches_the_canary
        attack/test_session_records.py::test_record_that_is_a_link_is_not_followed
        attack/test_session_records.py::test_pipe_in_the_place_of_a_file_is_not_opened
        attack/test_untrusted_access.py::test_methods_of_paths_are_kept_off_strangers_folders""",
    "O15": """attack/test_git_folders.py::test_folder_with_hostile_git_config_runs_nothing
        attack/test_git_folders.py::test_folder_whose_git_is_the_canary_is_read_nowhere""",
    "O16": """attack/test_session_records.py::test_damaged_record_loses_no_work
        attack/test_session_records.py::test_record_that_is_gone_loses_no_work
        attack/test_session_records.py::test_work_too_deep_to_compare_is_kept""",
    "O17": """attack/test_fuzz_notebook_server.py::test_answer_without_end_is_left
        attack/test_fuzz_notebook_server.py::test_redirect_is_not_followed
        attack/test_fuzz_notebook_server.py::test_watch_outlives_any_answer""",
    "O18": """embedded/test_embedded_sandbox.py::test_a_process_that_takes_too_much_memory_fails_alone
        embedded/test_embedded_sandbox.py::test_a_group_of_version_2_is_limited_where_memory_is_counted""",
    "O19": "attack/test_session_disk.py::test_notebook_beyond_its_disk_is_stopped",
    # your own machine: pages, accounts
    "O20": """server/test_app.py::test_on_ones_own_machine_a_foreign_link_is_asked_about
        server/routes/test_pages_foreign.py::test_on_ones_own_computer_it_asks_once_per_repository""",
    "O21": "embedded/test_embedded_clients.py::test_pages_of_other_sites_need_the_token",
    "O22": """attack/test_cookie_of_all_ports.py::test_what_a_notebook_sees_of_cookies_opens_nothing
        attack/test_cookie_of_all_ports.py::test_pages_leave_localhost_before_any_cookie
        attack/test_access_token.py::test_passes_expire_and_are_of_one_kind_and_one_token""",
    "O30": "embedded/test_embedded_clients.py::test_no_one_else_can_have_localhost_while_it_runs",
    "O31": """embedded/test_embedded_launch.py::test_a_notebook_from_start_to_stop
        cli/test_displays.py::test_a_browser_is_opened_and_its_command_line_shows_no_token""",
    "O32": """attack/test_access_token.py::test_own_machine_demands_the_token_that_it_prints
        attack/test_access_token.py::test_every_route_is_closed_without_token
        attack/test_access_token.py::test_the_cookie_alone_shows_no_notebook
        attack/test_access_token.py::test_no_token_is_demanded_where_it_is_not_wanted""",
    "O33": """core/runtime/test_private.py::test_state_folder_new_is_private
        core/runtime/test_private.py::test_state_folder_of_earlier_version_is_tightened""",
    "O34": """cli/test_serve_command.py::test_a_public_server_wants_a_token_or_an_allow_list
        server/security/test_access_token.py::test_without_it_nothing_but_probes_and_badges
        attack/test_access_token.py::test_token_that_can_be_guessed_is_refused""",
    "O35": "attack/test_what_stays_open.py::test_notebook_listens_on_loopback_alone",
    # a group's host
    "G1": """one_host/test_click_to_cell.py::test_code_is_in_containers_without_the_engine
        builders/test_docker_build.py::test_a_private_repository_and_no_one_learns_its_password""",
    "G2": """one_host/test_click_to_cell.py::test_code_is_in_containers_without_the_engine
        one_host/test_click_to_cell.py::test_who_is_idle_loses_server_and_user""",
    "G3": """attack/test_builder_workplace.py::test_link_of_a_repository_to_credentials_finds_none
        attack/test_builder_workplace.py::test_credentials_lie_under_a_name_that_differs
        attack/test_repo2docker_links.py::test_file_behind_a_link_out_of_it_is_not_read
        attack/test_repo2docker_links.py::test_file_in_a_linked_subfolder_is_not_read""",
    "G4": "one_host/test_click_to_cell.py::test_code_is_in_containers_without_the_engine",
    "G10": """one_host/test_click_to_cell.py::test_click_runs_a_cell_and_second_launch_builds_nothing
        hub/test_hub_spawners.py::test_a_process_is_opened_by_its_token_alone""",
    "G11": "hub/test_hub_login.py::test_who_is_answered_and_who_is_not",
    "G12": """hub/test_hub_login.py::test_two_users_see_nothing_of_each_other
        server/routes/test_login.py::test_the_log_of_a_build_is_for_who_asked_for_it""",
    "G13": """attack/test_metrics_names.py::test_metrics_with_login_name_no_repository
        attack/test_metrics_names.py::test_metrics_with_login_name_repositories_to_service""",
    "G14": """hub/test_hub_login.py::test_a_cancelled_launch_takes_the_server_and_not_the_user
        hub/test_hub_login.py::test_one_server_each_and_it_is_not_ours_to_take
        hub/test_hub_login.py::test_what_fails_leaves_the_user_alone""",
    "G15": "hub/test_hub_login.py::test_programs_build_only",
    "G20": """server/routes/test_login.py::test_another_page_starts_nothing_by_a_cookie
        server/routes/test_login.py::test_a_link_from_elsewhere_waits_for_a_click""",
    "G21": """hub/test_hub_login.py::test_a_login_a_launch_and_a_logout
        server/routes/test_login.py::test_cookies_of_a_server_behind_tls_are_for_tls""",
    "G22": """hub/test_hub_login.py::test_a_login_a_launch_and_a_logout
        one_host/test_click_to_cell.py::test_notebooks_are_at_localhost_and_pages_are_not""",
    "G30": "cli/test_init.py::test_one_host",
    # a public cluster
    "C1": """builders/test_pod_manifest.py::test_the_documented_pod
        attack/test_what_stays_open.py::test_engine_of_a_cluster_is_privileged""",
    "C2": """builders/test_kubernetes_build.py::test_credentials_travel_in_a_secret_that_goes_with_the_pod
        cluster/test_build_pods.py::test_credentials_reach_the_build_at_once_and_go_with_its_pod""",
    "C3": """chart/test_manifests.py::test_network_policies
        chart/test_manifests.py::test_engines_reach_the_port_of_the_registry
        attack/test_what_stays_open.py::test_networks_of_a_cluster_are_open_by_default""",
    "C4": """attack/test_build_pod_credentials.py::test_link_of_a_repository_in_a_pod_finds_nothing
        builders/test_kubernetes_build.py::test_folder_of_credentials_differs_from_pod_to_pod""",
    "C10": "chart/test_manifests.py::test_a_pod_may_do_little",
    "C11": "chart/test_manifests.py::test_the_role_allows_exactly_what_is_used",
    "C12": "attack/test_what_stays_open.py::test_image_cleaner_reads_and_cordons_nodes_alone",
    "C13": """chart/test_values.py::test_the_schema_refuses
        chart/test_manifests.py::test_helm_finds_nothing_to_complain_of""",
}


def claims() -> list[str]:
    """Names of the page's lines, below the table of what is taken for granted."""
    text = PAGE.read_text()
    return re.findall(r"^\| ([A-Z]+\d+) \|", text[text.index("## In all three places") :], re.MULTILINE)


@cache
def collected(file: Path) -> frozenset[str]:
    """Tests of a file that pytest collects and does not skip always."""
    return frozenset(
        node.name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not any("mark.skip(" in ast.unparse(mark) for mark in node.decorator_list)
    )


def test_every_line_of_the_page_has_a_name() -> None:
    text = PAGE.read_text()
    rows = [line for line in text[text.index("## In all three places") :].splitlines() if line.startswith(("|", "-"))]
    unnamed = [row for row in rows if not re.match(r"\| ([A-Z]+\d+ \| .+|\|)|\|---\|---\|$", row)]
    assert unnamed == []
    assert len(set(claims())) == len(claims()) > 50


def test_no_test_stands_for_a_line_that_is_gone() -> None:
    assert set(SHOWN_BY) - set(claims()) == set()


@pytest.mark.parametrize("claim", claims())
def test_line_of_the_page_is_shown_by_tests(claim: str) -> None:
    shown_by = SHOWN_BY.get(claim, "").split()
    assert shown_by, f"{claim}: nothing shows it; write a test, or take the line away"
    for test in shown_by:
        file, _, name = test.partition("::")
        assert name in collected(TESTS / file), f"{claim}: there is no test {test}"
