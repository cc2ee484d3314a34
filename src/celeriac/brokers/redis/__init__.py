"""A broker in Redis or Valkey."""
