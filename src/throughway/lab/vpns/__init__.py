"""The scenarios with real peers: which programs run where, one class for each way to set them up."""
