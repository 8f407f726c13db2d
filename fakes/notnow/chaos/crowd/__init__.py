"""A crowd of simulated clients at a server of finite capacity: the simulation, its figures and its pictures."""
