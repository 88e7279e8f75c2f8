"""Rankings by people: kept, asked for, exchanged and measured.

store                      the rankings in one SQLite file (database, schema, rows, entry)
session, selection         one person's way through the prompts, and which prompt comes next
exchange                   rankings to and from files; merging stores
pairs                      a ranking as comparisons of two responses
agreement, habits          how far labellers agree; position bias, speed
pooling, reliability       one ranking from many labellers, weighted by how reliable they are
"""
