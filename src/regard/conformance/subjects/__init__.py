"""What can be checked: functions, attention modules and whole models, and how each of them is called."""
