"""Widgets for notebooks; each shows a plain page where there is no front end.

dashboard            a stage while it trains, with its stop button (curves: its quick drawing)
ranking_widget       rank responses by drag, keys or buttons
microscope_widget    a response coloured by token (quantities; microscope_still: no kernel)
clip                 the clipped objective, with sliders
walk                 how the responses change along a run
"""
