"""What answers requests, one module for each part of the API and of the pages."""
