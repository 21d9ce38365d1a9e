"""What keeps one client, or one repository, from taking everything: the rate limit and the quotas."""
