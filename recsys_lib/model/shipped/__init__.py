"""What is shipped of a model version: its answers, without TensorFlow, in a tenth of the time."""
