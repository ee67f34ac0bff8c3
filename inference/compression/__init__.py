"""How many bits does it take?"""
