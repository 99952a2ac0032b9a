"""The same program for each queue: push so many tasks that do nothing, and a worker that runs them.

Each module runs in a virtualenv that holds its queue and nothing of ours, in this folder. Its `push` pushes,
and the command in `queues` works. All are set as their own documentation says for speed.
"""
