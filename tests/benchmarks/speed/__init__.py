"""What `make bench` measures: each row of its table is a contest, each curve a sweep of them."""
