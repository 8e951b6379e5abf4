"""The service: takes searches from several people, queues them, starts and resumes them, and shows them.

A run's folder is the truth and stands alone without the service, whose database knows people, wishes, order and
attempts. Imports neither torch nor ray nor optuna.
"""
