"""The slides of one lecture of an hour.

lecture.toml     what the slides say, with {names} where a number or a response of a run goes
facts, figures   those numbers and responses, and the figures, from the runs that come with the lab
slides           the page made of them (slides.css, slides.js)
"""
