"""The rules that the programs of all ranks have to keep, one a file; `funpipe.programs.verify` names them in order."""
