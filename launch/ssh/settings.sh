# What the profile and the command line say of this launch.
@{setup}
@{env}
python=@{python}
port=@{port}
dashboard_port=@{dashboard_port}
resources="@{resources}"
experiment=@{experiment}
storage=@{storage}
run=@{run}
attempt=@{attempt}
nodes=@{nodes}
on_end=@{on_end}
