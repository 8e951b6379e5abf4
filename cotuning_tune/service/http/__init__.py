"""The service's door: the JSON API under ``/api/v1``, and who may come in."""
