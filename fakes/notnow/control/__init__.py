"""The control API: fakes that any language starts, changes, watches and judges over HTTP. Needs the extra `notnow[control]`."""
