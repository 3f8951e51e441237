"""The demo's Django project: an ordinary small shop, with one report that bloats memory."""
