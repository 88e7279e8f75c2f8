"""Figures, tables and widgets: what a person sees and works with.

plots, panels              a run's curves; what each panel of the dashboard shows
alt_text, read_figure      a figure in words, for who cannot see it
tables, markup             tables and escaped HTML
cards                      answers to read: prompt, response, mark, reasons
alarms                     what is wrong with a run, in plain words
microscope                 one saved rollout token by token (microscope_plots)
feedback_plots             what people ranked (feedback_browser: where they disagree)
terminal_ranking           ranking where there is no notebook
widgets/                   dashboard, ranking, microscope and others for notebooks
"""
