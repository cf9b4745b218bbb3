"""Networks: the AlexNet backbone of SiamFC, SiamFC itself, their inference forms and their weights."""
