"""The control socket: the one door through which the daemon is asked and told.

`frames` is the protocol in bytes, `schema` the documents that travel in it, `server` the daemon's
end, `client` the end of the faces. Nothing here knows what a tunnel is.
"""
