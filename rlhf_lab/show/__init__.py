"""What one looks at and touches: plots, tables, alarms, the microscope, the widgets, and ranking on
the terminal."""
