"""Images in files, of any size: passes over their blocks, with a bounded amount of memory."""
