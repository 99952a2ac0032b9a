"""From a pushed task to an executed one: a whole worker process against those of other queues."""
