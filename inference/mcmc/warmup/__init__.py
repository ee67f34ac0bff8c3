"""What HMC learns before it draws: step sizes, lengths of trajectories, and a metric."""
