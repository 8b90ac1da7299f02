"""What everything stands on: checks of input, folders, whole files, devices, precision, processes."""
