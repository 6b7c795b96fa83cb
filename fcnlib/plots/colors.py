"""The colours of every figure that shows no labels."""

# Okabe and Ito's set, which colour-blind readers can tell apart; its yellow comes last
# because thin yellow lines are hard to see on white.
COLORS = (
    "#0072B2",  # blue
    "#D55E00",  # vermillion
    "#009E73",  # green
    "#CC79A7",  # purple
    "#E69F00",  # orange
    "#56B4E9",  # sky blue
    "#000000",  # black
    "#F0E442",  # yellow
)
