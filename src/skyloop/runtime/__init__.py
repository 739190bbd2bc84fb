"""What keeps the scan free: runners that hold engines, and sinks on threads of their own."""
