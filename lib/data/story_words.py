"""The words that the story corpus at hand everywhere draws from, in the notation of :mod:`lib.data.grammar`."""

#: Tables of what can be drawn: one row is drawn as a whole, so that whoever is called Lily is a "she".
POOLS = """
name  | he  | his | him
Tim   | he  | his | him
Ben   | he  | his | him
Max   | he  | his | him
Tom   | he  | his | him
Sam   | he  | his | him
Leo   | he  | his | him
Lily  | she | her | her
Mia   | she | her | her
Anna  | she | her | her
Lucy  | she | her | her
Sue   | she | her | her
Bella | she | her | her

animal   | home   | food
rabbit   | burrow | carrots
fox      | den    | berries
bear     | cave   | honey
mouse    | hole   | cheese
frog     | pond   | flies
cat      | basket | fish
dog      | house  | bones
squirrel | tree   | nuts

trait
little
brave
shy
clever
funny

place       | in             | spot
the forest  | in the forest  | behind a tall tree
the park    | in the park    | under a bench
the lake    | by the lake    | between two rocks
the beach   | on the beach   | next to a shell
the garden  | in the garden  | between the flowers
the river   | by the river   | under a bridge

toy
ball
kite
hat
doll
boat

colour
red
blue
green
yellow
white

perch    | on
the tree | in a tree
the roof | on a roof
the rock | on a rock

tool
ladder
rope
box

dish
cake
soup
pie

ingredient
milk
flour
butter

helper
cow
horse
hen

work
house
bridge
tower
wall

weak
leaves
mud

strong
wood
stones
bricks

skill | past    | ing
swim  | swam    | swimming
sing  | sang    | singing
dance | danced  | dancing

treat
pear
cookie
"""
