"""Speed and accuracy measured on this machine; nothing imports it."""
