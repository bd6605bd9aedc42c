"""Drop-in layers between funpipe and the libraries beside it; imports the public names of funpipe only."""

if __name__ != "funpipe.interop":
    raise ImportError(
        f"this folder was imported as {__name__!r}, a name of another package; import it as funpipe.interop instead"
    )
