"""Images, videos, masks and files: inputs are checked, outputs are written completely or not at all."""
