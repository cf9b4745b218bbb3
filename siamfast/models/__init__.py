"""Networks: SiamFC, the guided and the mobile tracker, the correspondence encoder; their inference forms and
weights."""
