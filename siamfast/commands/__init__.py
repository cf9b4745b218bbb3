"""The commands of `siamfast`, one file each: parsing, printing, and what happens on Ctrl-C."""
