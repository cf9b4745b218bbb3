"""The commands of `siamfast`, one file each: argument parsing, printing and the handling of Ctrl-C."""
