"""`heron report`: one run as one HTML page, to be sent to someone who has neither Heron nor the run.

It says in plain words what was trained on what and whether it helped, shows the curves and some answers, the failures among them, and
holds every setting. It needs no script and nothing from elsewhere, and reads on a phone, in the dark, and on paper.
"""

from heron.run.handout.page import handout
from heron.run.handout.png import reward_png

__all__ = ["handout", "reward_png"]
