"""Machines of AWS: EC2 instances, launched by fleets of type instant."""
