"""The HTTP door: resources own HTTP and nothing else. Neither the broker nor the actors are known here."""
