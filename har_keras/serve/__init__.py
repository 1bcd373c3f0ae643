"""An HTTP server with the REST API of TensorFlow Serving, and for videos."""
