"""Our own job types, one file each; nothing outside names them but the entry point table."""
