"""The demo: a real Django shop with one report that bloats, served, killed, and explained."""
