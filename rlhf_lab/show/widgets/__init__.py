"""Widgets for notebooks; each also has a plain page for viewers that run no widgets.

dashboard            a stage while it trains, with a stop button (curves: its quick drawing)
ranking_widget       rank responses by drag, keys or buttons
microscope_widget    a response coloured by token (quantities; microscope_still: no kernel)
clip                 the clipped objective, with sliders
walk                 how the responses change along a run
"""
