"""The pages, a file each, as thin as they can be: what they say and do stands in the room's other files."""
