"""Who may ask: tokens, logins, origins, proxies, bans."""
