"""Machines of AWS: EC2 instances, started by fleets."""
