"""What a user calls: the public functions, their arguments, other libraries' arrays."""
