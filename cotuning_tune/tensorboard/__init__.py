"""What TensorBoard shows of a run: event files, and the columns and charts of its dashboard."""
