"""What strangers have tried, or could: hostile repositories, notebooks, pages, links, archives and answers."""
