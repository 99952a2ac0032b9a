"""What an engine has to keep, by operation; `EngineContract` puts it together."""
