"""The `layers` builder: images put together from layers that are made once for each package."""
