"""Images, videos, masks and files: in checked, out whole."""
